"""The whole chain on real components, from a bare node to a running GPU pod."""
