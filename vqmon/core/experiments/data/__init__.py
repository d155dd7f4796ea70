"""From events to contrasts: metrics, clusters, pairs, sessions."""
