"""What every long-running command needs: wiring, lifecycle, retention, brokers, notifications."""
