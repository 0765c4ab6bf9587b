"""Settings of small runs."""

# The smallest run that goes through everything: two digits, one layer, the real configuration.
SMALL = (
    "task=mult2",
    "task.train_size=200",
    "task.valid_size=40",
    "task.test_size=10",
    "model.attn_implementation=eager",  # two runs of a test would measure it separately
    "model.config.n_layer=1",
    "model.config.n_embd=32",
    "model.config.n_head=2",
    "data.batch_size=16",
    "trainer=cpu",
    "optimizer.decay_steps=0",
)

# Two processes on a CPU; with trainer=ddp or trainer=fsdp.
TWO_RANKS = ("trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.devices=2")
