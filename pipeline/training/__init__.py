"""Training: optimiser steps, parameter groups, the loop, checkpoints, fine-tuning."""
