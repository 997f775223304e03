"""The explorer: one offline page on which a person turns the gains and sees modes, poles, step and response move."""
