import os

# Some operations are not there on Apple's GPUs; PyTorch, which reads this when it is loaded, then uses the CPU for them.
os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
