//! From module parameters to the settings of the user agent; what makes no sense stops start-up with one clear line.
use crate::host::params::ParameterBlock;
use crate::log;
use crate::pua::config::Config;
use crate::pua::digest;
use crate::reference::reading::BadParameter;
use crate::sip::uri::is_sip_uri;

/// Reads and checks the parameters.
///
/// # Errors
///
/// Fails when a parameter has a value that it cannot have.
pub fn read(params: &ParameterBlock) -> Result<Config, BadParameter> {
    let (config, warnings) = Config::read(&|at| params.value(at))?;
    if !digest::are_readable(config.credentials) {
        // The value is a secret.
        return Err(BadParameter::new("credential", "a text that cannot be read", "user:realm:password, ..."));
    }
    for warning in warnings {
        log!(Warn, "{warning}");
    }
    if !config.outbound_proxy.is_empty() && !is_sip_uri(config.outbound_proxy) {
        let given = String::from_utf8_lossy(config.outbound_proxy);
        log!(Warn, "outbound_proxy {given} is no SIP URI, and nothing can be sent to it; write sip:HOST:PORT");
    }
    Ok(config)
}
