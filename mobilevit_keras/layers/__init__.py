"""The blocks of MobileNetV2, MobileViT and MobileViTv2 as Keras layers."""

from mobilevit_keras.layers.aspp import ASPP
from mobilevit_keras.layers.batch_norm import BatchNorm
from mobilevit_keras.layers.conv import ConvNormAct
from mobilevit_keras.layers.forms import DEPLOYMENT, FORMS, QUANTIZED, TRAINING
from mobilevit_keras.layers.inverted_residual import InvertedResidual
from mobilevit_keras.layers.map_norm import MapNorm
from mobilevit_keras.layers.mobilevit_block import MobileViTBlock
from mobilevit_keras.layers.mobilevit_v2_block import MobileViTV2Block
from mobilevit_keras.layers.patches import Fold, Unfold
from mobilevit_keras.layers.pre_norm import PreNormLayer
from mobilevit_keras.layers.separable_conv import SeparableConv
from mobilevit_keras.layers.separable_transformer import SeparableTransformerLayer
from mobilevit_keras.layers.ssdlite_head import SSDLiteHead
from mobilevit_keras.layers.transformer import TransformerLayer

__all__ = [
    "ASPP",
    "DEPLOYMENT",
    "FORMS",
    "QUANTIZED",
    "TRAINING",
    "BatchNorm",
    "ConvNormAct",
    "Fold",
    "InvertedResidual",
    "MapNorm",
    "MobileViTBlock",
    "MobileViTV2Block",
    "PreNormLayer",
    "SSDLiteHead",
    "SeparableConv",
    "SeparableTransformerLayer",
    "TransformerLayer",
    "Unfold",
]
