% GNU Octave's answers to the systems of table.json: octave --no-gui -qf tests/oracles/octave.m (in tests/oracles)
% writes octave.json with the versions. Where Octave raises an error its message stands in place of the value.
pkg load control
text = fileread ("table.json");
table = jsondecode (text, "makeValidName", false);
names = fieldnames (table.rows);
out = struct ();
out.octave = OCTAVE_VERSION ();
packages = pkg ("list", "control");
out.control = packages{1}.version;
rows = {};

function value = try_value (f)
  try
    value = f ();
    if (isnumeric (value) && any (! isfinite (value(:))))
      % JSON has no infinity
      cells = cell (1, numel (value));
      for k = 1:numel (value)
        if (isfinite (value(k)))
          cells{k} = value(k);
        elseif (isnan (value(k)))
          cells{k} = "nan";
        else
          cells{k} = "inf";
        end
      end
      if (numel (cells) == 1)
        value = cells{1};
      else
        value = cells;
      end
    end
  catch problem
    value = struct ("error", problem.message);
  end_try_catch
end

function value = nth_output (f, n)
  outputs = cell (1, n);
  [outputs{:}] = f ();
  value = outputs{n};
end

for i = 1:numel (names)
  row = table.rows.(names{i}).system;
  dt = row.dt;
  if (isfield (row, "num"))
    g = tf (row.num(:).', row.den(:).', dt);
  else
    n = numel (row.B);
    a = reshape (row.A, n, n);
    g = ss (a, row.B(:), row.C(:).', row.D, dt);
  end
  answer = struct ("name", names{i});
  answer.gain_margin = try_value (@() nth_output (@() margin (g), 1));
  answer.phase_margin = try_value (@() nth_output (@() margin (g), 2));
  answer.hinf = try_value (@() norm (g, inf, 1e-9));
  answer.h2 = try_value (@() norm (g, 2));
  answer.hankel = try_value (@() hsvd (ss (g)).');
  rows{end + 1} = answer;
  fflush (stdout);
end
out.rows = rows;
file = fopen ("octave.json", "w");
fputs (file, [jsonencode(out), "\n"]);
fclose (file);
