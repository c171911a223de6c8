"""The live page: a small read-only web server beside a training run."""
