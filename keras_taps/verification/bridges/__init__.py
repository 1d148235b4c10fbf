"""From Keras networks to graphs and back."""
