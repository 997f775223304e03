#!/usr/bin/env bash
# Surprise: GNU Octave 7.3.0 (control 3.4.0) gives a textbook loop that is sampled fast a phase margin of 180 degrees. The
# loop is the zero-order hold of 2/(s(s+1)(s+2)) at dt = 0.001; python-control's own tests have 32.59 degrees for it, and
# a rotation of L by 40 degrees puts a pole outside the circle, as Octave's own eigenvalues say. Its gain margin is right.
# What follows: margins of Octave are no oracle for sampled plants; docs/disagreements.md counts them.
# Run: bash findings/octave_margins_of_sampled_plants.sh     (needs octave with its control package; exit 0 where the
# surprise is there)
set -euo pipefail
octave --no-gui -qf --eval '
pkg load control
g = c2d (ss (tf (2, [1 3 2 0])), 0.001, "zoh");
[gm, pm] = margin (g);
radius = max (abs (eig (g.a - exp (-1i * 40 * pi / 180) * g.b * g.c)));
printf ("Octave %s: gain margin %g, phase margin %g; L turned by 40 degrees: |z| = %.6f\n", OCTAVE_VERSION (), gm, pm, radius);
if (! (pm > 90 && radius > 1)) error ("the surprise is not there"); end
' 2> /dev/null
