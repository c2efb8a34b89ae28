"""``python -m gtasr_video`` is the command line."""

from gtasr_video.cli import main

if __name__ == "__main__":
    main()
