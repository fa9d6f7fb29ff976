"""A teacher for tests: answers by a function, and remembers what it was asked."""

from syntriever.conversation import Conversation
from syntriever.teacher import Answer, Usage


class FakeTeacher:
    """Answers each request with what `reply(request)` returns: an Answer, a text or None."""

    def __init__(self, reply):
        self.reply = reply
        self.asked = []
        self.over = False
        self.closed = False

    @property
    def usage(self):
        return Usage(len(self.asked), 10 * len(self.asked), len(self.asked))

    def answer(self, requests):
        for request in requests:
            self.asked.append(request)
            said = self.reply(request)
            yield said if isinstance(said, Answer) else Answer(said)
        self.over = True

    def close(self):
        self.closed = True


def saying(*texts):
    """A teacher that gives the listed answers, one after the other."""
    said = iter(texts)
    return FakeTeacher(lambda request: next(said))


def talk(teacher, allowed=1.0, reasks=0):
    """A conversation that lets any share fail and asks nothing again, unless told otherwise."""
    return Conversation(teacher, allowed, reasks)
