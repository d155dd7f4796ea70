"""What is sent to the outside: alerts to people, and decisions about inputs to what switches them."""
