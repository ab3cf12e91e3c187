//! What `pua.so` offers to scripts, as the reference page has it; a test compares it with the array in the glue.
use crate::reference::function::Function;

/// The functions.
pub const FUNCTIONS: &[Function] = &[
    Function {
        synopsis: "pua_update_contact()",
        arities: &[0],
        routes: "REQUEST_ROUTE",
        returns: "1, or -1 when the dialog is not known",
        kemi: &["pua.pua_update_contact()"],
        difference: "",
        text: "Takes the Contact of a NOTIFY, or of an answer in a dialog, as the dialog's new target.",
        example: "if (is_method(\"NOTIFY\")) pua_update_contact();",
    },
    Function {
        synopsis: "pua_metrics()",
        arities: &[0],
        routes: "ANY_ROUTE",
        returns: "1, or -1 when the request did not come over HTTP or could not be answered",
        kemi: &["pua.pua_metrics()"],
        difference: "does not have it",
        text: "Answers the HTTP request in hand with the [metrics](metrics.md) of pua, in a server that does not load \
            presence; where it does, `presence_metrics()` has them, too. It needs the xhttp module.",
        example: "event_route[xhttp:request] {\n\tif ($hu == \"/metrics\") pua_metrics();\n}",
    },
];
