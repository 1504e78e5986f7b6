"""Loops that numba compiles, for what torch's operations pass over too often; without numba the
plain layers are used, which tests compare with."""
