"""How often do the intervals contain the truth, and are curves without a threshold recognised?"""
