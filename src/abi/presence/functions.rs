//! What `presence.so` offers to scripts, as the reference page has it. The arrays that the host reads stand in the
//! glue, beside the C functions that turn script parameters into strings; a test compares them.
use crate::reference::function::{Function, Named};

/// The functions.
pub const FUNCTIONS: &[Function] = &[
    Function {
        synopsis: "handle_publish([sender_uri])",
        arities: &[0, 1],
        routes: "REQUEST_ROUTE",
        returns: "1, or -1 when the request was refused; it is answered in both cases",
        kemi: &["presence.handle_publish()", "presence.handle_publish_uri(sender)"],
        difference: "the same (1 after a 412, too)",
        text: "Answers a PUBLISH and notifies the watchers. `sender_uri` has to be a URI (400 otherwise): the watcher \
            whose Contact it is gets no NOTIFY. A transaction has to exist.",
        example: "if (!t_newtran()) { sl_reply_error(); exit; }\n\
            if (is_method(\"PUBLISH\")) handle_publish();\nt_release();",
    },
    Function {
        synopsis: "handle_subscribe([watcher_uri])",
        arities: &[0, 1],
        routes: "REQUEST_ROUTE",
        returns: "1; -1 when the request was refused, or its NOTIFY cannot be sent; it is answered in all cases",
        kemi: &["presence.handle_subscribe()", "presence.handle_subscribe_uri(watcher)"],
        difference: "differs: it knows no name-addr, and gives some requests no answer",
        text: "Answers a SUBSCRIBE and sends the NOTIFYs that it causes. `watcher_uri`, a URI or `\"Name\" <uri>` as \
            P-Asserted-Identity has it, counts in place of From; a text that is neither is answered 400. Refreshes \
            need \
            the same one, or none: another one is answered 481. A transaction has to exist.",
        example: "$var(watcher) = \"sip:\" + $au + \"@example.org\";\nhandle_subscribe(\"$var(watcher)\");",
    },
    Function {
        synopsis: "pres_auth_status(watcher_uri, presentity_uri)",
        arities: &[2],
        routes: "REQUEST_ROUTE",
        returns: "1 active, 2 pending, 3 terminated, 4 waiting; -1 when the rules cannot be read",
        kemi: &["presence.pres_auth_status(watcher, presentity)"],
        difference: "",
        text: "What the presentity's rules say of a watcher. It needs presence_xml.",
        example: "pres_auth_status(\"sip:bob@example.org\", \"sip:alice@example.org\");\nswitch ($rc) {\n\
            \tcase 1: xlog(\"bob may watch alice\\n\"); break;\n\
            \tcase 2: xlog(\"alice has not decided\\n\"); break;\n\tdefault: xlog(\"no ($rc)\\n\");\n}",
    },
    Function {
        synopsis: "pres_has_subscribers(presentity_uri, event)",
        arities: &[2],
        routes: "ANY_ROUTE",
        returns: "1 when there is a subscription to the presentity, -1 otherwise",
        kemi: &["presence.pres_has_subscribers(presentity, event)"],
        difference: "",
        text: "Whether the presentity has a watcher.",
        example: "if (pres_has_subscribers(\"sip:alice@example.org\", \"dialog\")) xlog(\"the lamp has a \
            watcher\\n\");",
    },
    Function {
        synopsis: "pres_refresh_watchers(uri, event, type[, file_uri, filename])",
        arities: &[3, 5],
        routes: "ANY_ROUTE",
        returns: "1 or -1; in KEMI scripts 0 or -1",
        kemi: &[
            "presence.pres_refresh_watchers(uri, event, type)",
            "presence.pres_refresh_watchers_file(uri, event, type, file_uri, filename)",
        ],
        difference: "",
        text: "Notifies the watchers. `type` 0: the rules changed. 1: the documents changed. 2: the manipulation \
            document \
            `filename` at `file_uri` changed.",
        example: "pres_refresh_watchers(\"sip:alice@example.org\", \"presence\", 1);",
    },
    Function {
        synopsis: "pres_update_watchers(uri, event)",
        arities: &[2],
        routes: "ANY_ROUTE",
        returns: "1 or -1",
        kemi: &["presence.pres_update_watchers(uri, event)"],
        difference: "",
        text: "Evaluates the rules for the watchers again, as type 0 of `pres_refresh_watchers()`.",
        example: "pres_update_watchers(\"sip:alice@example.org\", \"presence\");",
    },
    Function {
        synopsis: "presence_metrics()",
        arities: &[0],
        routes: "ANY_ROUTE",
        returns: "1, or -1 when the request did not come over HTTP or could not be answered",
        kemi: &["presence.presence_metrics()"],
        difference: "does not have it",
        text: "Answers the HTTP request in hand with all [metrics](metrics.md) in the text format of Prometheus; those \
            of pua \
            are with them where it is loaded. It needs the xhttp module.",
        example: "event_route[xhttp:request] {\n\tif ($hu == \"/metrics\") presence_metrics();\n}",
    },
];

/// The variables.
pub const VARIABLES: &[Named] = &[
    Named {
        synopsis: "$subs(name)",
        stock: true,
        text: "The subscription in hand: after `handle_subscribe()`, in `event_route[tm:local-request]` of a NOTIFY \
            and in \
            `event_route[presence:notify-reply]`.",
        attributes: &super::variables::ATTRIBUTES,
        example: "if (handle_subscribe()) {\n\
            \txlog(\"$subs(from_user) watches $subs(pres_uri) for $subs(event), $subs(expires) s\\n\");\n}",
    },
    Named {
        synopsis: "$notify_reply(pv)",
        stock: true,
        text: "Any variable of the answer to a NOTIFY, in `event_route[presence:notify-reply]`.",
        attributes: &[],
        example: "xlog(\"$subs(watcher_username) answered $notify_reply($rs)\\n\");",
    },
    Named {
        synopsis: "$presence_status",
        stock: false,
        text: "The status page, for `xhttp_reply()`; see [operations](operations.md). `$presence_status_script` and \
            `$presence_status_style` are its script and its style sheet, which it asks for as `page.js` and \
            `page.css`.",
        attributes: &[],
        example: "xhttp_reply(\"200\", \"OK\", \"text/html; charset=utf-8\", \"$presence_status\");",
    },
];

/// The event routes.
pub const EVENT_ROUTES: &[Named] = &[Named {
    synopsis: "event_route[presence:notify-reply]",
    stock: true,
    text: "Runs when a NOTIFY is answered, or times out. A KEMI script's `kemi.event_route_callback` is not called for \
        it.",
    attributes: &[],
    example: "event_route[presence:notify-reply] {\n\tif ($notify_reply($rs) == 480) {\n\
        \t\t# With xavp_cfg \"pres\": the subscription ends.\n\
        \t\t$xavp(pres=>delete_subscription) = 1;\n\t}\n}",
}];
