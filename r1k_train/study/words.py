"""A closed vocabulary of whole words, digits and signs: what a model of half a million parameters can spend on a text."""

from collections.abc import Iterable, Sequence

from tokenizers import Regex, Tokenizer, models, pre_tokenizers

MARKS = ["<pad>", "<unknown>", "<begin>", "<answer>", "<end>"]


class Words:
    """A token is a word, a digit, a sign or a line break; blanks are none. The same texts give the same tokens."""

    def __init__(self, texts: Iterable[str]) -> None:
        split = pre_tokenizers.Split(Regex(r"[^\W\d_]+|\d|\n|[^\s\w]|_"), "removed", invert=True)
        found = {part for text in texts for part, _ in split.pre_tokenize_str(text)}
        vocabulary = {word: number for number, word in enumerate([*MARKS, *sorted(found - set(MARKS))])}
        self._tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unknown>"))  # noqa: S106  a token of text
        self._tokenizer.pre_tokenizer = split
        self.pad, self.unknown, self.begin, self.answer, self.end = range(len(MARKS))

    def __len__(self) -> int:
        return int(self._tokenizer.get_vocab_size())

    def ids(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text).ids)

    def text(self, ids: Sequence[int]) -> str:
        """Without blanks, up to the first mark; what ends otherwise than by `<end>` keeps no mark of it."""
        words = []
        for token in ids:
            if token < len(MARKS):
                break
            words.append(str(self._tokenizer.id_to_token(token)))
        return "".join(words)
