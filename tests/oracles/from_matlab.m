% What docs/howto/from_matlab.md promises, as GNU Octave answers: octave --no-gui -qf from_matlab.m (in tests/oracles)
% writes from_matlab.json with the versions.
pkg load control
G = tf ([0.4, -0.1], [1, -1.3, 0.4], 1);
w = [0.1, 0.5, 1, 2];
out = struct ();
out.octave = OCTAVE_VERSION ();
packages = pkg ("list", "control");
out.control = packages{1}.version;
out.pole = sort (pole (G));
out.zero = zero (G);
out.dcgain = dcgain (G);
[gm, pm, wg, wp] = margin (G);
out.margin = [gm, pm, wg, wp];
[mag, phase] = bode (G, w);
out.mag = mag(:).';
out.phase = phase(:).';
[re, im] = nyquist (G, w);
out.nyquist = [re(:), im(:)];
out.step = step (G, 0:8)(:).';
out.impulse = impulse (G, 0:8)(:).';
T = feedback (G, 1);
out.closed = sort (abs (pole (T)));
locus = [];
for k = [0.5, 1, 2, 4]
  locus = [locus; sort(abs (pole (feedback (k * G, 1)))).'];
end
out.rlocus = locus;
S = feedback (tf (1, 1, 1), G);
out.sensitivity = norm (S, inf, 1e-12);
out.disk = 1 / norm (minreal ((S - T) / 2), inf, 1e-12);
out.norm2 = norm (T, 2);
out.norminf = norm (T, inf, 1e-12);
out.hsvd = hsvd (ss (T)).';
P = c2d (tf (1, [1, 1, 1]), 0.5, "zoh");
H = freqresp (P, w / 0.5);
out.c2d = [real(H(:)), imag(H(:))];
[A, B] = deal ([0.9, 0.2; 0, 0.7], [0; 1]);
out.dlqr = dlqr (A, B, eye (2), 0.5);
out.gram = trace (gram (ss (A, B, [1, 0], 0, 1), "c"));
file = fopen ("from_matlab.json", "w");
fputs (file, [jsonencode(out), "\n"]);
fclose (file);
