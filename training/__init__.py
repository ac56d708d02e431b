"""How the demo model was made: a world of drawings, a tokenizer, a small Pixtral, its training and its exam.

Nothing here is imported by the app. Read in this order: world, drawing, phrases, dialogue, data (what is
learned), tokenizer, model, train, export (how), evaluate (how well).
"""
