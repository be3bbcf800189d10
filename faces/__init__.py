"""Everything about a face in a picture: find it, follow it, cut it out upright, put its cartoon back.

    weights    the pinned small networks this room ships
    nets       runs them
    detect     whole picture -> boxes with points
    landmarks  one face -> 468 points, pose
    smooth     points that do not shake
    track      frames -> the same faces again, and what has to be hidden
    align      points -> upright crop and back
    paste      cartoon -> picture
    finish     before the paste: skin and hair take the person's colours, stray white is let go
    groups     crop -> which group's style draws this face
"""
