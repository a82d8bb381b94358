"""The GPU of this process, as torch sees it: loaded only where one was asked for."""

from study.errors import ConfigError
from study.execution.packs import UNSEEN_GPU_BYTES


def require_gpu() -> None:
    """Raise :class:`ConfigError` where torch sees no GPU."""
    import torch

    if not torch.cuda.is_available():
        built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
        raise ConfigError(
            f"--use-gpu needs a GPU that torch sees where the replicates train, and here it sees none (torch "
            f"{torch.__version__} is built {built}): look at nvidia-smi and CUDA_VISIBLE_DEVICES, name a cluster that "
            "has GPUs with --address, or leave it out"
        )


def gpu_memory() -> int:
    """Bytes of the first visible GPU; where the driver sees none, an assumption about the cluster's."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_properties(0).total_memory
    return UNSEEN_GPU_BYTES


def gpu_name() -> str:
    """The name of the GPU that torch takes by itself in this process: its own where several workers see all."""
    import torch

    return torch.cuda.get_device_name()


def free_gpu_memory() -> None:
    """Give memory that torch keeps for later back to the GPU."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
