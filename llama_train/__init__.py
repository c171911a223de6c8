"""llama_train: Llama 2 pretraining as in the report, from a laptop to a cluster."""
