"""Speech that is made of units again, beside its recording: how well it is understood and how alike."""
