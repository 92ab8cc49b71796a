# Prints how long each part of a run took. A line of the input: when the part began, in seconds, and its name. `end`: when
# the last one ended.
function print_time(seconds, name) { printf "%4d:%02d  %s\n", int(seconds / 60), seconds % 60, name }
NR == 1 { print "== times"; first = $1 }
NR > 1 { print_time($1 - began, name) }
{ began = $1; name = substr($0, length($1) + 2) }
END { print_time(end - began, name); print_time(end - first, "in all") }
