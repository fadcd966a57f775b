"""Names: what is a valid one, and one for what was left unnamed.

A generated name is Docker's kind, an adjective and the surname of a scientist or an engineer, from
lists of our own. It is drawn from a hash, so the same description has the same names every time.
Nobody who built the Apple I is ever called boring.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Container

from hostlab.spec.source import Wrong, quoted

MAX_HOSTNAME = 64
"""HOST_NAME_MAX of Linux, gethostname(2)."""
MAX_LABEL = 63
"""RFC 1035, section 2.3.4."""
MAX_INTERFACE_NAME = 15
"""IFNAMSIZ less the closing NUL, netdevice(7)."""

_ADJECTIVES = """
    agile alert amber apt ardent artful astute avid balmy blithe bold boring brave breezy bright
    brisk calm candid careful cheerful civil clever cordial cosmic crisp curious dapper daring
    deft eager earnest easygoing elegant fair faithful fearless fleet fluent frank fresh gallant
    genial gentle gifted glad golden graceful handy hardy hearty helpful honest humble jolly
    jovial keen kind lively lucid lucky mellow merry mindful modest nimble noble patient placid
    plucky polite prompt proud quick quiet radiant ready robust serene sharp shiny silent
    sincere smart snug sober sound spry steady stoic sturdy subtle sunny swift tactful tidy
    tranquil trusty upbeat valiant vivid warm wise witty zealous zesty
    """
_SURNAMES = """
    abel adleman agnesi aiken ampere anderson archimedes avogadro babbage backus baran bardeen
    bartik becquerel bell bernoulli bessel blackwell bohr boltzmann boole borg bose boyle brahe
    brattain brunel burnell cantor carnot cauchy cavendish cerf chebyshev church clarke codd
    conway copernicus corbato coulomb cray curie daguerre dahl dalton darwin davies dennis
    diesel diffie dijkstra dirac doppler easley edison eiffel engelbart erdos euclid euler
    faraday feinler fermat fermi feynman flowers floyd fourier franklin fresnel galileo galois
    gauss germain goddard godel goldberg hamilton hamming heaviside hellman hertz hilbert hoare
    holberton hollerith hooke hopper hubble huffman huygens jacobi jacquard johnson joule kahn
    kay kelvin kepler kernighan khwarizmi kilby kleene knuth kolmogorov lagrange lamarr lamport
    laplace lavoisier leavitt leibniz liskov lorentz lovelace marconi markov mauchly maxwell
    mccarthy mcclintock meitner mendel metcalfe milner minsky moore morse napier nash naur
    neumann newton nightingale noether nyquist ohm oppenheimer pascal pasteur pauli perlman
    planck poisson postel raman ramanujan rayleigh ride riemann ritchie rivest rutherford sagan
    shamir shannon shockley sinclair somerville stokes stroustrup sutherland swartz tarjan
    taylor tesla thales thompson torvalds turing vaughan volta watt weierstrass wiener wilkes
    wirth wozniak yalow yonath zuse
    """
ADJECTIVES = tuple(_ADJECTIVES.split())
SURNAMES = tuple(_SURNAMES.split())
_NEVER = ("boring", "wozniak")

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"
LABEL_PATTERN = r"^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$"
INTERFACE_PATTERN = r"^[^\s/:.%][^\s/:%]{0,14}$"
VARIABLE_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]*$"
USER_PATTERN = r"^[a-z_][a-z0-9_-]{0,31}$"


def generated(seed: str, number: int, taken: Container[str], joint: str = "-") -> str:
    """The name of the `number`th unnamed thing under this seed, none of those taken."""
    attempt = 0
    while True:
        digest = hashlib.sha256(f"{seed}\0{number}\0{attempt}".encode()).digest()
        pair = (
            ADJECTIVES[int.from_bytes(digest[:8]) % len(ADJECTIVES)],
            SURNAMES[int.from_bytes(digest[8:16]) % len(SURNAMES)],
        )
        name = joint.join(pair)
        # Past some thousand names the pairs run out; a number tells the rest apart.
        if attempt >= 64:
            name = f"{name}{joint}{number}"
        if pair != _NEVER and name not in taken:
            return name
        attempt += 1


def name(word: str) -> str:
    """The name of a lab, a segment, a role or a volume: it becomes part of a path."""
    if not re.fullmatch(NAME_PATTERN, word):
        fixed = re.sub(r"[^A-Za-z0-9_.-]+", "-", word).lstrip("_.-")[:MAX_LABEL]
        raise Wrong(
            f"{quoted(word)} is not a name: letters, digits, `_`, `.` and `-`, at most {MAX_LABEL}",
            f"did you mean `{fixed}`?" if fixed else None,
        )
    return word


def label(word: str) -> str:
    """The name of a node: also its host name, so a label of the DNS (RFC 1123, section 2.1)."""
    if not re.fullmatch(LABEL_PATTERN, word):
        fixed = re.sub(r"[^A-Za-z0-9]+", "-", word).strip("-")[:MAX_LABEL].strip("-")
        raise Wrong(
            f"{quoted(word)} is not a host's name: letters, digits and `-`, at most {MAX_LABEL}",
            f"did you mean `{fixed}`?" if fixed else None,
        )
    if word.lower() == "localhost":
        raise Wrong("every host calls itself `localhost`", "choose another name")
    return word


def hostname(word: str) -> str:
    """A host name with or without a domain."""
    if len(word) > MAX_HOSTNAME:
        raise Wrong(f"a host name has at most {MAX_HOSTNAME} characters")
    for part in word.split("."):
        if not re.fullmatch(LABEL_PATTERN, part):
            raise Wrong(f"{quoted(word)} is not a host name: letters, digits, `-` and `.`")
    return word


def carrier(word: str) -> str:
    """The name of what carries a tunnel: an interface, or `lo` for the loopback addresses."""
    return word if word == "lo" else interface(word)


def interface(word: str) -> str:
    """The name of a network device, as `dev_valid_name` of net/core/dev.c has it, and narrower."""
    if len(word.encode()) > MAX_INTERFACE_NAME:
        raise Wrong(f"{quoted(word)} is longer than {MAX_INTERFACE_NAME} bytes")
    if not re.fullmatch(INTERFACE_PATTERN, word) or not word.isprintable():
        raise Wrong(f"{quoted(word)} is not an interface's name", "as `eth0`: no `/`, `:` or space")
    if word in ("lo", "all", "default"):
        raise Wrong(f"{quoted(word)} is the kernel's own", "choose another, as `eth0`")
    return word


def variable(word: str) -> str:
    """The name of an environment variable."""
    if not re.fullmatch(VARIABLE_PATTERN, word):
        raise Wrong(f"{quoted(word)} is not a variable's name: letters, digits and `_`")
    return word


def user(word: str) -> str:
    """The name of a user, as useradd(8) recommends."""
    if not re.fullmatch(USER_PATTERN, word):
        raise Wrong(f"{quoted(word)} is not a user's name: small letters, digits, `_` and `-`")
    return word
