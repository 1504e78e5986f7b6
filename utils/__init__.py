"""Whichever part of the program is loaded first, torch then begins no more threads than it may."""

from utils.cores import limit_threads

limit_threads()
