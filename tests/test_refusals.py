"""What the log says of refusals: who asked from where, about whom, in which dialog; and one line for each NOTIFY where
that is wanted."""
import re

import pytest

from kit.kamailio import Kamailio
from kit.responder import Responder
from kit.sip import Client, pidf
from test_pua import ALICE, parameters

MEMORY = dict(subs_db_mode=0, publ_cache=2)


def lines(server, words):
    return [line for line in server.log().split("\n") if words in line]



# How a request is refused: by what code, and what is sent.
SUBSCRIBES = {
    489: lambda phone: phone.subscribe("sip:alice@example.org", event="nothing").reply,
    400: lambda phone: phone.subscribe("sip:alice@example.org", contact=None).reply,
    423: lambda phone: phone.subscribe("sip:alice@example.org", expires=1).reply,
    481: lambda phone: phone.reply_to(phone.request("SUBSCRIBE", "sip:alice@example.org", ["Event: presence"],
                                                    to_tag="x")),
    403: lambda phone: [phone.subscribe("sip:alice@example.org").reply for _ in range(3)][-1],
}
PUBLISHES = {
    489: lambda phone: phone.publish("sip:alice@example.org", body=pidf(), event="nothing"),
    400: lambda phone: phone.publish("sip:alice@example.org", body=None),
    412: lambda phone: phone.publish("sip:alice@example.org", body=pidf(), etag="x"),
    415: lambda phone: phone.publish("sip:alice@example.org", body="x", ctype="text/plain"),
    413: lambda phone: phone.publish("sip:alice@example.org", body=pidf(note="x" * 3000)),
    423: lambda phone: phone.publish("sip:alice@example.org", body=pidf(), expires=1),
    403: lambda phone: [phone.publish("sip:alice@example.org", body=pidf()) for _ in range(3)][-1],
}


@pytest.mark.parametrize("method", ["SUBSCRIBE", "PUBLISH"])
def test_each_refusal_says_who_from_where_about_whom_and_in_which_dialog(method):
    bounds = dict(MEMORY, min_expires=60, max_subscriptions=2, max_publications=2, max_body_size=2000)
    with Kamailio("ours", presence=bounds) as server:
        for code, ask in (SUBSCRIBES if method == "SUBSCRIBE" else PUBLISHES).items():
            phone = Client(server, "bob%d" % code)
            reply = ask(phone)
            assert reply.code == code
            found = [line for line in lines(server, "%s from %s " % (method, phone.uri))
                     if " answered %d " % code in line]
            assert len(found) == 1, (code, found)
            for part in ("(127.0.0.1:%d)" % phone.port, "for sip:alice@example.org,",
                         "Call-ID %s," % reply.get("Call-ID")):
                assert part in found[0], (code, part, found)
            phone.close()


def test_the_server_s_refusal_of_a_request_of_pua_is_in_the_log():
    """As one line with a bound, like every refusal; what pua settles by itself is none."""
    responder = Responder()
    with Kamailio("ours", http=True, modules=("pua", "pua_rpc"),
                  extra_params=parameters() + 'modparam("tm", "fr_timer", 500)\n', workers=1) as server:
        def publish(ident):
            server.json_rpc("pua.publish", ALICE, "600", "presence", "application/pidf+xml", ident, ".", responder.uri,
                            ".", pidf())

        publish("a")
        responder.script = lambda message: 403
        publish("b")
        refused = lines(server, "PUBLISH of pua for ")
        assert len(refused) == 1 and "NOTICE" in refused[0]
        for part in (ALICE, "answered 403 by 127.0.0.1:%d" % responder.port,
                     "Call-ID %s," % responder.requests[-1].get("Call-ID")):
            assert part in refused[0], refused
        responder.script = lambda message: None
        publish("c")
        assert len(lines(server, "is not answered")) == 1
        responder.script = lambda message: 403
        for n in range(30):
            publish("x%d" % n)
        assert len(lines(server, "answered 403 by")) <= 20
    responder.close()


def test_a_subscription_that_a_notify_ends_is_named_in_full():
    with Kamailio("ours", presence=MEMORY, extra_params='modparam("tm", "fr_timer", 500)\n') as server:
        for answer, said in ((481, "its NOTIFY was answered 481"), (None, "its NOTIFY was not answered (408)")):
            phone = Client(server, "p%s" % answer, answer=answer)
            watch = phone.subscribe("sip:alice@example.org", event="dialog")
            watch.wait(1)
            for _ in range(20):
                phone.quiet(0.2)
                found = lines(server, "subscription of %s " % phone.uri)
                if found:
                    break
            assert len(found) == 1 and said in found[0], found
            for part in ("to sip:alice@example.org for dialog at sip:%s@127.0.0.1:%d" % (phone.user, phone.port),
                         "Call-ID %s," % watch.call_id):
                assert part in found[0], found
            phone.close()


@pytest.mark.parametrize("level", [None, 2])
def test_one_line_for_each_notify_and_its_answer_where_that_is_wanted(level):
    with Kamailio("ours", presence=dict(MEMORY, **({} if level is None else dict(local_log_level=level)))) as server:
        bob = Client(server, "bob")
        watch = bob.subscribe("sip:alice@example.org")
        notify = watch.wait(1)[0]
        bob.quiet(0.4)
        about = [line for line in lines(server, watch.call_id) if " NOTIFY " in line]
        if level is None:
            assert not about
        else:
            sent, answered = about
            assert "on behalf of sip:alice@example.org for event presence" in sent
            assert re.search(r"NOTIFY answered 200 after \d+ ms, CSeq %d : " % notify.cseq, answered), answered
        bob.close()


def test_a_contact_that_cannot_be_updated_is_said_with_its_sender():
    route = """
request_route {
    if (is_method("OPTIONS")) { sl_send_reply("200", "OK"); exit; }
    pua_update_contact();
    sl_send_reply("200", "OK");
}
"""
    with Kamailio("ours", presence=MEMORY, modules=("pua",), extra_params=parameters(), route=route) as server:
        carol = Client(server, "carol")
        reply = carol.reply_to(carol.request("NOTIFY", "sip:alice@example.org", ["Event: presence"]))
        found = lines(server, "pua_update_contact")
        assert len(found) == 1 and "is not in a dialog" in found[0]
        for part in (carol.uri, "(127.0.0.1:%d)" % carol.port, "sip:alice@example.org", reply.get("Call-ID")):
            assert part in found[0]
        carol.close()
