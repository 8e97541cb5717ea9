"""Recipes of the images that live tests run on."""
