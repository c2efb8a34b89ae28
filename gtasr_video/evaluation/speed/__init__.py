"""How fast a machine upscales, where the time goes, and how that compares with others: ``gtasr-video bench``.

Times of one machine at one moment say little. What is compared is measured in turns within one run, and what is kept
for later comparison are ratios.
"""
