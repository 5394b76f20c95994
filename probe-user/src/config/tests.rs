use super::*;
use crate::{classes::Class, cli::PlanArgs};

fn config(text: &str, args: &AgentArgs) -> Result<Config, String> {
    let source = Source { path: Path::new("a.toml"), text };
    Config::merge(args, &source, &Surroundings::default()).map_err(|error| error.to_string())
}

fn selection(interface: &[&str], exclude: &[&str]) -> Result<Selection, String> {
    let strings = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
    Selection::from_flags(&strings(interface), &strings(exclude)).map_err(|error| error.to_string())
}

#[test]
fn which_interfaces() {
    for (interface, exclude, name, expected) in [
        (&[][..], &[][..], "eth0", true),
        (&[], &[], "lo", false),
        (&[], &["eth*"], "eth0", false),
        (&[], &["eth*"], "tap0", true),
        (&["lo"], &[], "lo", true),
        (&["l*"], &[], "lo", true),
        (&["lo"], &[], "eth0", false),
        (&["eth0", "tap?"], &[], "tap7", true),
        (&["eth0", "tap?"], &[], "tap77", false),
        (&["{eth,tap}*"], &["tap1"], "tap1", false),
        (&["eth0"], &[], "eth01", false),
        (&["eth0"], &["eth0"], "eth0", false),
        (&["ens[0-9]"], &[], "ens3", true),
    ] {
        let selection = selection(interface, exclude).expect("good globs");
        assert_eq!(selection.selects(name, name == "lo"), expected, "{interface:?} {exclude:?} {name}");
    }
}

#[test]
fn what_exists() {
    let existing = ["lo", "eth0", "wlan0", "br-8f2a"].map(str::to_owned);
    for (interface, expected) in [
        (&["eth0"][..], Ok(vec![])),
        (&["tap*", "eth*"], Ok(vec!["tap*".to_owned()])),
        (
            &["eht0"],
            Err("no interface `eht0`; did you mean `eth0`? interfaces here: lo, eth0, wlan0, br-8f2a".to_owned()),
        ),
        (&["tap*", "zzzzz"], Err("no interface `zzzzz`; interfaces here: lo, eth0, wlan0, br-8f2a".to_owned())),
    ] {
        let outcome = selection(interface, &[]).expect("good globs").check_against(&existing);
        assert_eq!(outcome.map_err(|error| error.to_string()), expected, "{interface:?}");
    }
    let many: Vec<_> = (0..1000).map(|n| format!("tap{n}")).collect();
    let error = selection(&["lo"], &[]).expect("good").check_against(&many).expect_err("not there").to_string();
    assert!(error.ends_with("tap19 and 980 more"), "{error}");
}

#[test]
fn bad_globs() {
    for (glob, expected) in [
        ("eth[0", "--interface: bad glob `eth[0` at character 4: unclosed character class; missing ']'"),
        ("é{a,b", "--interface: bad glob `é{a,b` at character 2: unclosed alternate group"),
        ("a}", "--interface: bad glob `a}` at character 2: unopened alternate group"),
        ("e[z-a]", "--interface: bad glob `e[z-a]` at character 3: invalid range"),
        ("eth\\", "--interface: bad glob `eth\\` at character 4: dangling"),
        ("", "--interface: the glob is empty; name an interface"),
    ] {
        let error = selection(&[glob], &[]).expect_err(glob);
        assert!(error.starts_with(expected), "{glob:?}: {error}");
    }
}

#[test]
fn flags_win_over_the_file() {
    let text = "interface = ['tap*']\nlisten = '[::]:1'\nsocket = 'none'\nlog_format = 'text'\n\
                log_level = 'debug'\nmax_interfaces = 7\n[drop_classes]\nneigh_failed = 'noise'\n";
    let config_of_file = config(text, &AgentArgs::default()).expect("a good file");
    assert_eq!(config_of_file.listen, "[::]:1".parse().expect("an address"));
    assert_eq!((config_of_file.socket, config_of_file.socket_is_default), (None, false));
    assert_eq!(config_of_file.log_format, LogFormat::Text);
    assert_eq!(config_of_file.log_level, LevelFilter::DEBUG);
    assert_eq!(config_of_file.max_interfaces, Some(7));
    assert_eq!(config_of_file.classes.of("neigh_failed", ""), Class::Noise);
    assert!(config_of_file.selection.selects("tap1", false) && !config_of_file.selection.selects("eth0", false));

    let mut args = AgentArgs { max_interfaces: Some(8), socket: Some("/x".into()), ..AgentArgs::default() };
    args.selection.interface = vec!["eth0".to_owned()];
    let of_both = config(text, &args).expect("a good file");
    assert_eq!((of_both.max_interfaces, of_both.socket), (Some(8), Some("/x".into())));
    assert!(of_both.selection.selects("eth0", false) && !of_both.selection.selects("tap1", false));
}

#[test]
fn defaults() {
    let config = config("", &AgentArgs::default()).expect("nothing is wrong");
    assert_eq!((config.listen, config.max_interfaces), (DEFAULT_LISTEN, None));
    assert_eq!((config.socket, config.socket_is_default), (Some(DEFAULT_SOCKET.into()), true));
    assert_eq!((config.log_format, config.log_level), (LogFormat::Json, LevelFilter::INFO));
}

#[test]
fn roles_and_ports() {
    let text = "uplink = ['bond*']\ntrack = ['bond0', 'tap*:guests']\nports = 'none'\n";
    let of_file = config(text, &AgentArgs::default()).expect("a good file");
    assert!(of_file.roles.names_uplinks() && of_file.roles.is_uplink("bond1") && !of_file.roles.is_uplink("eth0"));
    assert_eq!(of_file.roles.track_group("tap7", false, false), "guests");
    assert_eq!(of_file.roles.track_group("bond1", false, true), "", "tracked is what is listed");
    assert_eq!(of_file.ports, Ports::None);
    assert!(of_file.roles.check_against(&["eth0".to_owned()]).is_ok_and(|missing| missing == ["bond*"]));

    let args = AgentArgs {
        plan: PlanArgs { uplink: vec!["eth0".to_owned()], track: vec!["none".to_owned()], ..PlanArgs::default() },
        ports: Some(Ports::Each),
        ..AgentArgs::default()
    };
    let of_both = config(text, &args).expect("a good file");
    assert!(of_both.roles.is_uplink("eth0") && !of_both.roles.is_uplink("bond1"));
    assert_eq!((of_both.roles.track_group("tap7", false, true), of_both.ports), ("", Ports::Each));
    assert!(of_both.roles.check_against(&["eth1".to_owned()]).is_err(), "a plain name must exist");

    let by_default = config("", &AgentArgs::default()).expect("nothing is wrong");
    assert!(!by_default.roles.names_uplinks() && by_default.ports == Ports::Aggregate);
    assert_eq!(by_default.roles.track_group("eth0", false, true), "node");
}

#[test]
fn bad_files() {
    for (text, expected) in [
        ("listen = '127.0.0.1'", "a.toml:1:10: key listen: `127.0.0.1` is no ADDR:PORT; write numbers, as in"),
        ("\nlisten = 5", "a.toml:2:10: key listen: invalid type: integer `5`, expected a string; "),
        ("listne = 'x'", "a.toml:1:1: key listne: unknown field `listne`, expected one of `interface`,"),
        ("interface = [\n  'eth0',\n  'e['\n]", "a.toml:3:3: key interface: bad glob `e[` at character 2: "),
        ("max_interfaces = 4097", "a.toml:1:18: key max_interfaces: 4097 is outside of 1 to 4096; "),
        ("max_interfaces = -1", "a.toml:1:18: key max_interfaces: -1 is outside of 1 to 4096; "),
        ("log_level = 'loud'", "a.toml:1:13: key log_level: unknown value `loud`; write one of error, warn, "),
        ("socket = ''", "a.toml:1:10: key socket: the path is empty; "),
        ("[drop_classes]\nxdp = 'bad'", "a.toml:2:7: key xdp: unknown class `bad`; write one of capacity, "),
        ("[drop_classes]\nXDP = 'noise'", "a.toml:2:1: key XDP: `XDP` is no drop reason; write it in lower case"),
        ("uplink = ['e[']", "a.toml:1:11: key uplink: bad glob `e[` at character 2: "),
        ("track = ['eth0',\n 'tap*:a b']", "a.toml:2:2: key track: `a b` is no name of a track group; write letters,"),
        ("tunnel_port = ['4789', 'x']", "a.toml:1:24: key tunnel_port: `x` begins with no UDP port; write 1 to 65535"),
        (
            "tunnel_port = ['1', '2', '3']",
            "--tunnel-port: no room for vxlan on UDP port 3; name two ports of each kind",
        ),
        ("state_dir = ''", "a.toml:1:13: key state_dir: `` is no absolute path; "),
        ("[objective]\npercent = 101", "a.toml:2:11: key percent: 101 is not above 0 and at most 100; "),
        ("[objective]\npercent = nan", "a.toml:2:11: key percent: NaN is not above 0 and at most 100; "),
        ("[objective]\npercents = 1", "a.toml:2:1: key percents: unknown field `percents`, expected `percent` or"),
        (
            "[objective]\nacceptable_loss_percent = 0",
            "a.toml:2:27: key acceptable_loss_percent: 0 is not between 0 and 100; ",
        ),
        ("[incident]\neases_after = '1 day'", "a.toml:2:15: key eases_after: `1 day`: `day` is no unit; "),
        ("[incident]\ncloses_after = '30s'", "a.toml:2:16: key closes_after: an incident would be over after `30s`, "),
        ("track = ['eth0:']", "a.toml:1:10: key track: `` is no name of a track group; "),
        ("track = [':x']", "a.toml:1:10: key track: the glob is empty; "),
        ("track = ['all', 'eth0']", "--track: `all` or `none` stands beside another value; give it alone, or globs"),
        ("ports = 'some'", "a.toml:1:9: key ports: unknown value `some`; write one of aggregate, each, none"),
        ("listen = ", "a.toml:1:"),
        ("listen", "a.toml:1:"),
        ("listen = 'a'\nlisten = 'b'", "a.toml:2:1: key listen: duplicate key; "),
        ("interface = 'eth0'", "a.toml:1:13: key interface: invalid type: string \"eth0\", expected a sequence; "),
    ] {
        let error = config(text, &AgentArgs::default()).err().unwrap_or_default();
        println!("{error}");
        assert!(error.starts_with(expected), "{text:?}: {error}");
    }
}

#[test]
fn incidents() {
    let by_default = config("", &AgentArgs::default()).expect("nothing is wrong").incidents;
    assert_eq!(by_default, IncidentConfig::default());
    let text = "state_dir = '/var/lib/x'\n[objective]\npercent = 99\nacceptable_loss_percent = 1.5\n\
                [incident]\neases_after = '5s'\ncloses_after = '100s'\n";
    let of_file = config(text, &AgentArgs::default()).expect("a good file").incidents;
    assert_eq!((of_file.state_dir, of_file.objective_percent), (Some("/var/lib/x".into()), 99.0));
    let thresholds = of_file.thresholds;
    assert_eq!((thresholds.eases_after_ms, thresholds.closes_after_ms), (5_000, 100_000));
    assert!((thresholds.acceptable_ratio - 0.015).abs() < 1e-9);
    let patient = config("[incident]\neases_after = '1h'", &AgentArgs::default()).expect("good").incidents.thresholds;
    assert_eq!(patient.closes_after_ms, 3_600_000, "what eases for an hour is not over after ten minutes");

    // The flag, the file, systemd.
    for (flag, file, systemd, expected) in [
        (None, "", None, None),
        (None, "", Some("/run/a:/run/b"), Some("/run/a")),
        (None, "", Some(""), None),
        (None, "state_dir = '/f'", Some("/run/a"), Some("/f")),
        (None, "state_dir = 'none'", Some("/run/a"), None),
        (Some("/x"), "state_dir = '/f'", Some("/run/a"), Some("/x")),
        (Some("none"), "state_dir = '/f'", Some("/run/a"), None),
    ] {
        let args = AgentArgs { state_dir: flag.map(Into::into), ..AgentArgs::default() };
        let surroundings = Surroundings { state_directory: systemd.map(Into::into), ..Surroundings::default() };
        let source = Source { path: Path::new("a.toml"), text: file };
        let config = Config::merge(&args, &source, &surroundings).expect("good");
        assert_eq!(config.incidents.state_dir, expected.map(PathBuf::from), "{flag:?} {file} {systemd:?}");
    }
    let args = AgentArgs { state_dir: Some("lossprobe".into()), ..AgentArgs::default() };
    let said = config("", &args).expect_err("not absolute");
    assert!(said.starts_with("--state-dir: `lossprobe` is no absolute path; name a folder"), "{said}");
}

#[test]
fn origins() {
    for (url, accepted) in [
        ("http://127.0.0.1:9976", true),
        ("http://[::1]:9976/", true),
        ("http://node", true),
        ("https://node", false),
        ("127.0.0.1:9976", false),
        ("http://", false),
        ("", false),
    ] {
        assert_eq!(agent_url(url).is_ok(), accepted, "{url}");
    }
    let args = StatsArgs { socket: Some("none".into()), ..StatsArgs::default() };
    assert!(StatsConfig::from_args(&args).is_err());
}

#[test]
fn where_xdp_is_asked_for() {
    let wants = |text: &str, flags: &[&str], name: &str| {
        let xdp = flags.iter().map(|&flag| flag.to_owned()).collect();
        let config = config(text, &AgentArgs { plan: PlanArgs { xdp, ..PlanArgs::default() }, ..AgentArgs::default() })
            .expect("good");
        assert_eq!(config.xdp_is_asked_for(), !text.is_empty() || !flags.is_empty());
        config.wants_xdp(name)
    };
    assert!(!wants("", &[], "eth0"), "only where it is asked for");
    assert!(wants("", &["eth*"], "eth0") && !wants("", &["eth*"], "tap0"));
    assert!(wants("xdp = [\"tap0\"]", &[], "tap0"));
    assert!(!wants("xdp = [\"tap0\"]", &["eth0"], "tap0"), "a flag replaces the file's list");
    let error = config("xdp = [\"[a\"]", &AgentArgs::default()).expect_err("no glob");
    assert!(error.starts_with("a.toml:1:8: key xdp"), "{error}");
}

#[test]
fn who_may_open_the_socket() {
    let group = |text: &str, flag: Option<&str>| {
        let args = AgentArgs { socket_group: flag.map(str::to_owned), ..AgentArgs::default() };
        config(text, &args).map(|config| config.socket_group)
    };
    assert_eq!(group("", None), Ok(None));
    assert_eq!(group("socket_group = 'root'", None), Ok(Some(0)));
    assert_eq!(group("socket_group = 'root'", Some("54321")), Ok(Some(54_321)));
    for (text, flag, expected) in [
        (
            "socket_group = 'no:such'",
            None,
            "a.toml:1:16: key socket_group: no group `no:such` in /etc/group; write its",
        ),
        ("", Some(""), "--socket-group: no group `` in /etc/group; "),
        ("", Some("root:x"), "--socket-group: no group `root:x` in /etc/group; "),
        ("socket = 'none'", Some("root"), "--socket-group: there is no socket; leave it out"),
    ] {
        let said = group(text, flag).expect_err(text);
        assert!(said.starts_with(expected), "{said}");
    }
}

#[test]
fn a_web_configuration_that_is_wrong_is_a_usage_error() {
    let path = std::env::temp_dir().join(format!("lossprobe-config-{}.yml", std::process::id()));
    std::fs::write(&path, "users: {}\n").expect("write");
    let of_file = config(&format!("web_config = '{}'", path.display()), &AgentArgs::default());
    let flag = Some("/nonexistent".into());
    let of_flag = config("", &AgentArgs { web_config: flag, ..AgentArgs::default() });
    std::fs::remove_file(&path).expect("remove");
    let said = of_file.expect_err("an unknown key");
    assert!(said.starts_with(&format!("{}:1:1: key users: unknown key; ", path.display())), "{said}");
    assert!(of_flag.expect_err("no file").starts_with("--web-config: cannot read /nonexistent (No such file"));
}
