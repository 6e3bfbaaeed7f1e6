"""What a message's text is made of: placeholders, rendering, and the size of an SMS."""
