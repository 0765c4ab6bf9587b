"""The LightningModule, the LightningDataModule, optimizers and checkpoint files."""
