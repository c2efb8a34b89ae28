"""Networks: the one-step consistency model for video, its tiers, and how weights are stored."""

from gtasr_video.models.budget import BUDGETS, TierFacts, tier_facts
from gtasr_video.models.checkpoint import Card, load_model, read_card, save_model, sha256, weights_path
from gtasr_video.models.facts import ModelFacts, State, VideoModel
from gtasr_video.models.gtasr import TIERS, Architecture, GTASRVideo

__all__ = [
    "BUDGETS",
    "TIERS",
    "Architecture",
    "Card",
    "GTASRVideo",
    "ModelFacts",
    "State",
    "TierFacts",
    "VideoModel",
    "load_model",
    "read_card",
    "save_model",
    "sha256",
    "tier_facts",
    "weights_path",
]
