"""A target that vLLM runs: the only package that imports vllm, and it is imported where a target in vLLM is asked for and nowhere else."""
