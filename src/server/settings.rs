//! From module parameters to the settings of the presence server; what makes no sense stops start-up with one clear
//! line.
use crate::host::params::ParameterBlock;
use crate::host::{clock, log, sockets};
use crate::log;
use crate::presence::config::Config;
use crate::reference::reading::BadParameter;

/// Reads and checks the parameters; `commit` and `host_version` say which module this is.
///
/// # Errors
///
/// Fails when a parameter has a value that it cannot have.
pub fn read(
    params: &ParameterBlock,
    commit: &'static [u8],
    host_version: &'static [u8],
) -> Result<Config, BadParameter> {
    let given = |at| params.value(at);
    let (mut config, mut warnings) =
        Config::read(&given, None, commit, host_version, clock::random_number(), clock::now(), false)?;
    config.log_facility = match params.gives_text(c"local_log_facility") {
        true => Some(facility(config.log_facility_name)?),
        false => None,
    };
    warnings.extend(config.settle()?);
    warnings.extend(unknown_socket(config.default_socket));
    for warning in warnings {
        log!(Warn, "{warning}");
    }
    Ok(config)
}

/// A warning, where `default_socket` names no socket that the server listens on.
fn unknown_socket(name: &[u8]) -> Option<String> {
    (!name.is_empty() && !sockets::is_listening(name)).then(|| {
        format!(
            "default_socket {} is none of the sockets that the server listens on, and NOTIFYs to watchers of other \
             nodes leave from one that the server chooses; write one of its listen lines, as in udp:192.0.2.1:5060",
            log::show(name)
        )
    })
}

fn facility(name: &'static [u8]) -> Result<i32, BadParameter> {
    let known = std::ffi::CString::new(name).ok().and_then(|name| log::facility(&name));
    let allowed = "a syslog facility such as LOG_LOCAL3";
    known.ok_or_else(|| BadParameter::new("local_log_facility", log::show(name), allowed))
}
