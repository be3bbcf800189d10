"""Everything about a face in a picture: find it, follow it, cut it out upright, put its cartoon back.

    weights    the pinned small networks this room ships
    nets       runs them
    detect     whole picture -> boxes with points
    landmarks  one face -> 468 points, pose
    finders    these networks, opened together; detectors: those that the user brings
    smooth     points that do not shake
    tracks     one face from frame to frame; identity: who is who when faces meet, part and come back
    track      frames -> the same faces again, and what has to be hidden
    align      points -> upright crop and back
    paste      cartoon -> picture
    finish     before the paste: skin and hair take the person's colours, stray white is let go
    detail     of it, the person's own lines
    calm       what stays the same neither shimmers nor boils
    matte      the person in any picture, as an alpha; background: what stands behind people in video
    looks      crop -> age, sex, glasses
    groups     looks of a track -> which group's style draws this face; judge: how well that goes on a table's pictures
    still      the largest face of a still picture; pictures, tables: what is read from files
"""

import livetoon  # noqa: F401 -- before what it keeps silent
