"""Whichever part of the program is loaded first, torch then finds its surroundings prepared."""

from utils.system.surroundings import prepare

prepare()
