"""The weights that ship with the package: one safetensors file a tier, and a card beside each."""
