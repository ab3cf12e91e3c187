"""What the log says of refused requests: one line each, limited by cause."""

ALLOWED = "subscriptions (max_subscriptions)"


def test_a_flood_of_one_cause_hides_no_other(ours, phones):
    server = ours(workers=1, presence=dict(subs_db_mode=0, publ_cache=2, max_subscriptions=1))
    alice, bob, carol = phones(server, "alice"), phones(server, "bob"), phones(server, "carol")
    assert bob.subscribe(alice.uri).reply.code == 200
    codes = {bob.subscribe(alice.uri).reply.code for _ in range(25)}
    assert codes == {403}
    text = carol.request("PUBLISH", carol.uri, ["Event: presence", "Expires: 60", "Content-Type: text/plain"], body="x")
    assert carol.reply_to(text).code == 415
    unknown = [carol.request("SUBSCRIBE", alice.uri, ["Event: no-such-%d" % n, "Expires: 60"]) for n in range(15)]
    assert {carol.reply_to(one).code for one in unknown} == {489}
    lines = server.log().splitlines()
    assert len([line for line in lines if ALLOWED in line]) == 10
    assert len([line for line in lines if "answered 415" in line and carol.uri in line]) == 1
    assert len([line for line in lines if "answered 489" in line]) == 10


def test_rules_that_do_not_exist_are_no_error(both):
    def scenario(server, phone, trace):
        alice = phone("alice")
        answer = server.rpc("presence.updateWatchers", alice.uri, "presence")
        trace.note("answer", answer)
        trace.note("errors", [line for line in server.log().splitlines() if "ERROR" in line and "presence" in line])

    both(scenario, workers=1)
