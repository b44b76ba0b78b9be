"""Which pre-trained model suits a data set: a catalogue of models, what they reached, and what predicts it."""
