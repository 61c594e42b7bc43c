# declare.awk: xent.h, from the list of operations and the template:
#
#   awk -f declare.awk ops.def include/xent.h.in >xent.h
#
# In the template, the line
#   @function NAME@             stands for the function of an operation for float, which the comment before it describes,
#   @functions TYPE SUFFIX@     for those of all operations for another type.
# An operation that only one of the two files has is an error.

function fail(what) {
    print "declare.awk: " what >"/dev/stderr"
    failed = 1
    exit 1
}

# Broken where a line would be longer than 120, as clang-format breaks it.
function declare(name, type, suffix,    parts, count, i, line, indent) {
    line = "const " type " *x"
    if (target[name] == "LABELS")
        line = line ", const int64_t *labels"
    else if (target[name] != "NONE")
        line = line ", const " type " *t"
    line = line (target[name] == "POINT" ? ", size_t n" : ", size_t rows, size_t classes")
    if (value[name] != "NONE")
        line = line ", " type " *value"
    if (emit[name] != "NONE") # beside a value, by what ..._value_and_NAME ends with
        line = line ", " type " *" (value[name] == "NONE" ? "out" : substr(name, match(name, /[a-z]+$/)))
    count = split(line, parts, ", ")

    line = "XENT_API xent_status xent_" name "_" suffix "("
    indent = sprintf("%" length(line) "s", "")
    line = line parts[1]
    for (i = 2; i <= count; i++) {
        line = line ","
        if (length(line " " parts[i] (i < count ? "," : ");")) <= 120)
            line = line " " parts[i]
        else {
            print line
            line = indent parts[i]
        }
    }
    print line ");"
}

FNR == 1 {
    file++
}

file == 1 && /^OP\(/ {
    gsub(/[ \t]/, "")
    split($0, field, /[(),]/)
    name = field[2]
    names[++operations] = name
    target[name] = field[4]
    value[name] = field[5]
    emit[name] = field[6]
}

file == 1 {
    next
}

/^@function [a-z0-9_]+@$/ {
    name = substr($2, 1, length($2) - 1)
    if (!(name in target))
        fail(FILENAME ":" FNR ": ops.def has no operation " name)
    described[name] = 1
    declare(name, "float", "f32")
    next
}

/^@functions [a-z0-9_]+ [a-z0-9]+@$/ {
    for (i = 1; i <= operations; i++)
        declare(names[i], $2, substr($3, 1, length($3) - 1))
    next
}

/^@/ {
    fail(FILENAME ":" FNR ": " $0 " is neither @function NAME@ nor @functions TYPE SUFFIX@")
}

{
    print
}

END {
    for (i = 1; i <= operations && !failed; i++)
        if (!(names[i] in described))
            fail("ops.def has " names[i] ", and " FILENAME " does not describe it")
}
