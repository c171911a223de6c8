"""Lightning's Trainer, with one line for carbontrack: python lightning_fit.py OUT [DEVICES]"""

import sys

import lightning
import torch
from torch.utils.data import DataLoader

from carbontrack.integrations.lightning import CarbonTrackCallback


class Tiny(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(64, 16)
        self.head = torch.nn.Linear(16, 64)

    def loss(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        ids = batch["input_ids"]
        logits = self.head(self.embed(ids[:, :-1]))
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())

    def training_step(self, batch: dict[str, torch.Tensor], index: int) -> torch.Tensor:
        loss = self.loss(batch)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: dict[str, torch.Tensor], index: int) -> None:
        self.log("val_loss", self.loss(batch))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def loader(count: int) -> DataLoader:
    ids = torch.randint(0, 64, (count, 17), generator=torch.Generator().manual_seed(count))
    return DataLoader([{"input_ids": row} for row in ids], batch_size=2)


devices = int(sys.argv[2]) if len(sys.argv) > 2 else 1
trainer = lightning.Trainer(
    accelerator="auto" if torch.cuda.is_available() else "cpu",
    devices=devices,
    strategy="ddp" if devices > 1 else "auto",
    max_epochs=1,
    log_every_n_steps=1,
    default_root_dir=sys.argv[1],
    logger=False,
    enable_progress_bar=False,
    enable_model_summary=False,
    callbacks=[CarbonTrackCallback(name="tiny-lightning", project="examples")],
)
trainer.fit(Tiny(), loader(16), loader(4))
