"""Recipes: one for each number that we report, by its name. ``rastrum recipes`` lists them, ``rastrum train NAME`` runs one.

A file per family of models; to add a recipe, add one ``Recipe(…)`` to the tuple at the end of its file.
"""

from . import (
    conv_draw,
    draw,
    gated_pixelcnn,
    gran,
    least_squares,
    one_shot,
    pixelcnn,
    pixelcnn_plus_plus,
    pixelrnn,
    spatial_lstm,
    vae,
    video_pixel_network,
)
from .recipe import Recipe as Recipe
from .recipe import build_model as build_model
from .recipe import recipe_for as recipe_for

PIXEL_BY_PIXEL = (pixelcnn, gated_pixelcnn, pixelcnn_plus_plus, pixelrnn, spatial_lstm, least_squares, video_pixel_network)
STROKE_BY_STROKE = (draw, conv_draw, one_shot, vae, gran)
FAMILIES = PIXEL_BY_PIXEL + STROKE_BY_STROKE
RECIPES: dict[str, Recipe] = {recipe.name: recipe for family in FAMILIES for recipe in family.RECIPES}
