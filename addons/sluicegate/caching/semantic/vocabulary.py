"""The few words and turns of phrase that two questions may differ in; whatever is not here must be the same in both."""

from __future__ import annotations

import re
from re import ASCII, IGNORECASE

PLAIN = ASCII | IGNORECASE
"""Without ASCII, letters that look like others would match them."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


OPENINGS = re.compile(
    r"(?:(?:hi|hello|hey)(?: there)?(?:[,!.]+(?= +(?:(?-i:[a-z])|(?:how|what|why|can|could|would|please|i|is|are|do|does|when|"
    r"where|explain|write|fix|show|give|tell|describe|debug|review)\b))|(?= (?:how|what|why|can|could|please|i)\b))|"
    r"good (?:morning|afternoon|evening)[,!.]+|"
    r"quick question[:,]|sorry to bother you,? but|please,?|kindly|(?:can|could|would|will) you please|please (?:can|could) you|"
    r"(?:can|could|would|will) you(?= (?:(?:show|tell|give) me|explain|describe|summarize|(?:fix|debug|review) (?:this|my))\b)|"
    r"i(?: would|'d) like you to|i (?:want|need) you to|i(?: would|'d)? (?:want|like) to know(?= (?:how|what|why|when|where)\b)|"
    r"do you know(?= how to\b))\s+",
    PLAIN,
)
"""How a request may begin without saying anything. ``Can you write to a closed channel`` is a question, so few verbs are listed."""

CLOSINGS = re.compile(r"(?<=[\w)\"'`])[,.!?]\s*(?:please|thanks(?: in advance)?|thank you|cheers)\s*[.!?]*$", PLAIN)
"""How a request may end without saying anything; ``the German word for thanks`` has no mark before it."""

AS_WRITTEN = re.compile(
    r"\b(?:translat\w*|proofread|punctuat\w*|grammar|spelling|commas?|rephrase|paraphrase|sentences?|phrases?|quot(?:e|es|ation)|say|says|"
    r"said|reply|replies|respond|answers?|pronounce\w*|letters?|characters?|spaces?|whitespace|capitali[sz]\w*|uppercase|lowercase|"
    r"anagrams?|palindromes?|rhymes?|syllables?|count|poem|lyrics|song|joke|echo|repeat)\b",
    PLAIN,
)
"""Words near which any other may be meant as it is written: a line with one is compared as it stands, thanks and commas too."""

_THING = r"(?:an? )?(?!(?:the|this|that|these|my|your|it|how|what|why|when|where|who)\b)[\w-]+(?: [\w-]+)?"
"""One or two words that name a thing."""

FRAMES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, PLAIN), meaning)
    for pattern, meaning in (
        (r"^what is the way to ", "how "),
        (r"^is there a way to ", "how "),
        (r"^(?:tell me |show me )?how (?:do|can|could|would|might) (?:i|we|one) ", "how "),
        (r"^how does one ", "how "),
        (r"^(?:tell me |show me )?how to ", "how "),
        (r"^(?:explain |tell me |describe )?(?:to me )?how (\S+(?: \S+)?) works\.?$", r"how does \1 work"),
        (r"^(?:tell me|explain|describe)(?: to me)? what (.{1,80}) (is|are)[.!]?$", r"what \2 \1"),
        (rf"^what (?:is|are) ({_THING})[?.!]*$", r"explain \1"),
        (rf"^(?:tell me about|describe|define|explain) ({_THING})[?.!]*$", r"explain \1"),
        (r"^(?:give|show) me an example ", "example "),
        (
            r"^(?:write|create|generate|provide|implement|give me)(?= an? (?:\S+ ){0,2}(?:function|script|regexp?|program|query|"
            r"dockerfile|makefile|haiku|test)\b)",
            "write",
        ),
    )
)
"""Turns of phrase at the start of a question that ask for the same, each with the words that stand for it."""

_THIS = r"(?:this|the|my)(?: (?:code|function|snippet|program|script|query|regex))?(?: (?:below|above|here))?"
_END = r"(?: for me)?[.:!?]*$"
CODE_FRAMES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, PLAIN), meaning)
    for pattern, meaning in (
        (rf"^(?:fix|debug|repair|correct) (?:{_THIS}|(?:this|the|my) (?:bug|error|problem)(?: in {_THIS})?){_END}", "repair this"),
        (rf"^find and fix the bug(?: in {_THIS})?{_END}", "repair this"),
        (rf"^(?:explain(?: what)?|describe(?: what)?) {_THIS}(?: does)?{_END}", "explain this"),
        (rf"^what does {_THIS} do{_END}", "explain this"),
        (rf"^what is wrong (?:with {_THIS}|here){_END}", "wrong this"),
        (rf"^why (?:does {_THIS} fail|is {_THIS} failing){_END}", "why fail this"),
        (rf"^(review|write tests for|test) {_THIS}{_END}", r"\1 this"),
    )
)
"""Whole requests about code that stands below them; the code itself is compared byte for byte."""

CONTRACTIONS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\bcan't\b", PLAIN), "can not"),
    (re.compile(r"\bwon't\b", PLAIN), "will not"),
    (re.compile(r"^what's (?:exactly )?|^what exactly is ", PLAIN), "what is "),
    (re.compile(r"\benv (?=variables?\b)", PLAIN), "environment "),
    (re.compile(r"\b(do|does|did|is|are|was|were|has|have|had|should|would|could|must)n't\b", PLAIN), r"\1 not"),
)

FIRST_WORDS = _words("explain convert write fix debug review translate simplify evaluate what why how is does")
"""Words at the start of a line with code in it that are the same with a capital."""

ARTICLES = frozenset({"a", "an", "the"})
BEFORE_ARTICLES = _words(
    """is are was were be been of in to for with on from into as at by and or than like about between through without within inside
    using use uses make makes making create creates creating write writes build add get set run open close read delete remove update
    copy move send parse sort reverse merge split join convert return returns find have has had need want declare define explain
    describe implement check if whether do does did show give me tell call not when while that there via over under against after
    before during until iterate loop throw raise catch handle test mock start stop install deploy debug fix print format import
    export generate clone push pull revert rename resolve connect query insert select when initialize instantiate what's example i
    we you can should would could must"""
)
"""Words after which ``a`` is an article; else, as in ``vitamin a`` or ``il a fait``, it may be a name or another language's."""
NO_NOUNS = _words("with to by and or from in into for before after is are was of on at then than as if")
"""Words before which ``a`` is a name, as in ``divide a by b``."""

FILLERS = frozenset({"basically", "actually"})
SHORT_FORMS = {"js": "javascript", "k8s": "kubernetes", "regexp": "regex"}
"""Short forms that nobody uses as a name of something else."""

TOPICS = _words(
    """python ruby go golang rust java javascript js typescript c c++ c# f# scala haskell kotlin swift perl php lua r
    julia bash zsh fish sh powershell sql mysql postgres postgresql sqlite oracle mongodb redis git docker
    kubernetes k8s helm terraform ansible linux windows macos ubuntu debian fedora vim neovim emacs react vue
    angular svelte node node.js express flask django fastapi rails numpy pandas pytest jest vitest npm yarn pip
    cargo curl awk sed grep jq cmake gcc css html"""
)
"""Languages and tools that may be named before a question or after it: ``in Go, how ...``, ``Go: how ...``, ``how ... in Go``."""

FOLDED = (TOPICS - _words("go c r fish express swift rust react flask helm node julia c++ c# f#")) | _words(
    """json yaml toml xml csv http https api url uuid html dns tcp udp rest graphql cli ci cd jwt oauth orm ip"""
)
"""Names that are the same in capitals and in small letters, wherever they stand."""

FIRST_TOPIC = re.compile(r"^(?:(in|on|using|with) (\S+), |(\S+?)(?:: | - ))(?=\S)", PLAIN)
LAST_TOPIC = re.compile(r" (in|on|using|with) (\S+?)[?.!]*$", PLAIN)

NAMING = _words(
    """name names named rename call called title field column variable key class header tag label table folder
    directory word words string text print say spell replace"""
)
"""Words near which another word may be meant as it is written; capitals and plurals matter then."""

WITH_PLURALS = _words("how explain what why when should does do is are describe")
"""How a question begins in which ``a thing`` and ``things`` are the same; who asks to be given one does not ask for several."""

RESULTS = _words("return returns returning select selects yield yields pick picks choose chooses produce produces")
"""Words after which one thing and several are told apart."""

BEFORE_QUESTIONS = _words(
    "tell me explain show know see ask decide choose describe check find out determine list say of in for to by with on"
)
"""Words after which ``which`` asks, and is not ``that``."""

INVARIABLE = _words(
    """windows pandas news express kubernetes redis postgres jenkins alias status canvas always series axios https"""
)
"""Words whose last ``s`` makes no plural."""

CODE_START = re.compile(
    r"(?:select|insert into|update \w+ set|delete from|create (?:table|index|view)|drop (?:table|index|view)|alter table)\b"
    r"|(?-i:(?:git|docker|npm|pip|kubectl|sudo|cd|ls|rm|cp|mv|curl|grep|sed|awk|brew|apt|python|node|cargo|helm|terraform|def|class"
    r"|import|from|return|for|while|if|let|const|var|function|func|fn|print|public|private|static|raise|throw|yield|assert|echo"
    r"|export|set) )",
    PLAIN,
)
"""How a line of code or a command begins; such a line is compared as it stands."""

CODE_MARKS = frozenset("=;{}[]()<>|&$*\\^~%+@#_")
"""Characters that prose does without; a line with one of them is compared as it stands."""
