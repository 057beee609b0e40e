"""Training: optimiser steps, parameter groups, the loop, checkpoints, learning online."""
