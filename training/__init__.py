"""How a demo model is made: a world of drawings, a tokenizer, a small Pixtral, its training and its exam.

Nothing here is imported by the app. Read in this order: pictograms, pack, bank (the raw material); world,
scenes, words, charts, photos, drawing (pictures); wording, questions, several, smalltalk, forms, dialogue
(what is said of them); tokenizer, data, model, checkpoint, train, export (learning); exam, judge, evaluate.
"""
