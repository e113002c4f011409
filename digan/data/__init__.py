"""Video in, training pairs out: decode, prepare, store, sample; and encode again.

    video.py      decode any video, write mp4 / gif / lossless
    images.py     single pictures: read, crop and resize, records, contact sheets
    gif.py        palettes for GIF, in constant memory
    sources.py    what a folder of videos or frames holds: clips, labels, splits
    layouts.py    the four data sets of the paper, as they are published
    catalog.py    their published counts
    kinetics_food.py    the keywords and classes of one of them, its annotations
    split_lists.py      lists of splits and classes, as UCF-101 has them
    prepare.py    sources to store: workers, resuming, disk check
    estimate.py   how large the store will be
    reading.py    one source to its finished part
    workers.py    the processes that do it
    parts.py      the finished parts, and how they become a store
    store.py      the store: any single frame at once
    check.py      what `digan data check` reports
    datasets.py   training pairs, pure functions of (seed, number)
    progress.py   bars with the remaining time
    synthetic.py  drifting clouds, a small video set made from nothing

This room knows neither the networks nor the training loop.
"""
