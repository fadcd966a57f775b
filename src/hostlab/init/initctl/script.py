"""The program behind Upstart's names in a node, and how it is put there.

It is a script of the POSIX shell, because a node's root may have no Python, and needs `mkfifo`
besides (`cat` and `rm` for long answers). Its way to the supervisor is a directory that only the
node's root may enter:

    requests      a FIFO that the supervisor reads; a line names who asks. The holder keeps it open.
    holder        the holder's pid: when that is gone nobody will ever answer
    ID            a FIFO of whoever asks, for the answer
    ID.args       what is asked: NUL-ended words, `n` program, `e` variable, `a` argument, last `.`
    ID.out        an answer that is longer than a FIFO takes at once; ID.err likewise

An answer is lines: `o` and `e` with a line for standard output and error, `f` for the two files,
and last `x` with the status. It is one write of at most PIPE_BUF bytes, so it arrives whole or not
at all. The client holds its FIFO open for reading and writing: it neither waits in open(2) nor sees
an end of file, and a supervisor that dies is waited for.
"""

from __future__ import annotations

from typing import Final

DEFAULT_DIRECTORY: Final = "/run/hostlab/initctl"
DEFAULT_BIN: Final = "/run/hostlab/bin"
SESSION_PREFIX: Final = "hostlab:"
"""UPSTART_SESSION of an init with another directory: this, and the directory."""
VARIABLES: Final = (
    "UPSTART_JOB",
    "UPSTART_INSTANCE",
    "UPSTART_SESSION",
    "UPSTART_EVENTS",
    "RUNLEVEL",
    "PREVLEVEL",
)
_DIRECTORY_MARK: Final = "@DIRECTORY@"
_VARIABLES_MARK: Final = "@VARIABLES@"
_SCRIPT: Final = r"""#!/bin/sh
# Upstart's initctl, start, stop, telinit, ... for this init; made by hostlab.
name=${0##*/}
directory=@DIRECTORY@
case ${UPSTART_SESSION-} in
hostlab:*) directory=${UPSTART_SESSION#hostlab:} ;;
esac
PATH=${PATH:+$PATH:}/usr/bin:/bin
umask 077

refuse() {
    printf '%s: Unable to connect to Upstart: %s: %s\n' "$name" "$directory" "$1" >&2
    exit 1
}

[ -d "$directory" ] || refuse 'No such file or directory'
[ -x "$directory" ] && [ -w "$directory" ] || refuse 'Permission denied'
[ -p "$directory/requests" ] && read -r holder <"$directory/holder" &&
    kill -0 "$holder" 2>&- || refuse 'Connection refused'

id=$$
tries=0
until mkfifo -m 600 "$directory/$id" 2>&-; do
    tries=$((tries + 1))
    [ $tries -lt 100 ] && [ -e "$directory/$id" ] || refuse 'cannot make a FIFO'
    id=$$.$tries
done
answer=$directory/$id
exec 3<>"$answer"
{
    printf 'n%s\0' "$name"
@VARIABLES@
    [ $# -eq 0 ] || printf 'a%s\0' "$@"
    printf '.\0'
} >"$answer.args" || refuse 'cannot write the request'
printf '%s\n' "$id" 1<>"$directory/requests"

while IFS= read -r line <&3; do
    case $line in
    'o '*) printf '%s\n' "${line#??}" ;;
    'e '*) printf '%s\n' "${line#??}" >&2 ;;
    f)
        cat "$answer.out"
        cat "$answer.err" >&2
        rm -f "$answer" "$answer.out" "$answer.err" "$answer.args"
        ;;
    'x '*) exit "${line#??}" ;;
    esac
done
refuse 'no answer'
"""


def script(directory: str = DEFAULT_DIRECTORY) -> str:
    """The client's text, for an init whose requests go to this directory."""
    quoted = "'" + directory.replace("'", "'\\''") + "'"
    variables = "\n".join(
        f'    [ -z "${{{name}+x}}" ] || printf \'e{name}=%s\\0\' "${name}"' for name in VARIABLES
    )
    return _SCRIPT.replace(_DIRECTORY_MARK, quoted).replace(_VARIABLES_MARK, variables)
