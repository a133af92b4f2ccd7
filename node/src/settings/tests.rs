//! What settings say, from all three forms.

use std::collections::BTreeSet;

use clap::{Args, Command, CommandFactory, FromArgMatches};

use steading::placement::planner::{PinPolicy, PlanSettings, Strategy, Strength};

use super::*;

/// Reads settings from a file's text and flags. Variables are left out: tests run side by side.
fn read(file: &str, flags: &[&str]) -> Result<Settings, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("steading.toml");
    std::fs::write(&path, file).expect("a file");
    let command = Settings::augment_args(Command::new("node")).no_binary_name(true);
    let command = command.mut_args(|arg| arg.env(None::<&str>));
    let command = with_file::<Settings>(command, &path).map_err(|error| error.to_string())?;
    let matches = command
        .try_get_matches_from(flags)
        .map_err(|error| error.to_string())?;
    Settings::from_arg_matches(&matches).map_err(|error| error.to_string())
}

#[track_caller]
fn refused(file: &str, flags: &[&str]) -> String {
    match read(file, flags) {
        Err(error) => error,
        Ok(settings) => settings
            .check(Role::Node)
            .expect_err("it should be refused")
            .to_string(),
    }
}

const ETCD: &str = "--etcd=http://127.0.0.1:2379";

#[test]
fn s2_25_every_setting_has_the_same_name_in_all_three_forms() {
    let settings = Settings::augment_args(Command::new("settings"));
    for arg in settings.get_arguments() {
        let name = arg.get_id().as_str();
        let variable = format!("STEADING_{}", name.to_uppercase());
        assert_eq!(
            arg.get_env().and_then(|name| name.to_str()),
            Some(variable.as_str())
        );
        assert_eq!(arg.get_long(), Some(name.replace('_', "-").as_str()));
    }
}

/// Returns the variables that a command and its subcommands take.
fn variables(command: &Command) -> BTreeSet<String> {
    let own = command.get_arguments().filter_map(clap::Arg::get_env);
    let own = own.map(|name| name.to_string_lossy().into_owned());
    let below = command.get_subcommands().flat_map(variables);
    own.chain(below).collect()
}

#[test]
fn every_variable_of_every_command_is_in_the_list_of_known_ones() {
    let taken = variables(&crate::args::Cli::command());
    let known: Vec<_> = taken.iter().map(String::as_str).collect();
    assert_eq!(known, steading_settings::SETTINGS);
}

#[test]
fn every_secret_can_come_from_a_file() {
    let settings = Settings::augment_args(Command::new("settings"));
    let names: BTreeSet<_> = settings.get_arguments().map(clap::Arg::get_id).collect();
    let secret = settings
        .get_arguments()
        .filter(|arg| arg.is_hide_env_values_set());
    // A storage that has a password in its URL is not in this version.
    let secret: Vec<_> = secret
        .map(|arg| arg.get_id().as_str())
        .filter(|name| *name != "storage")
        .collect();
    assert_eq!(secret, ["etcd_password", "inspector_token"]);
    for name in secret {
        assert!(names.iter().any(|id| id.as_str() == format!("{name}_file")));
    }
}

#[test]
fn secrets_are_read_from_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("secret");
    std::fs::write(&path, "geheim-geheim\n").expect("a file");
    let path = path.display();
    let file = format!("etcd_password_file = '{path}'\ninspector_token_file = '{path}'");
    let settings = read(&file, &[ETCD, "--etcd-user=me"]).expect("good settings");
    settings.check(Role::Node).expect("they go together");
    let etcd = settings.store.etcd_settings().expect("it can be read");
    assert_eq!(etcd.user, Some(("me".into(), "geheim-geheim".into())));
    let access = settings.inspector.access().expect("it can be read");
    let token = access.token.expect("it is set");
    assert_eq!(token.reveal(), "geheim-geheim");

    let both = format!("--etcd-password-file={path}");
    let error = refused("", &[ETCD, "--etcd-user=me", "--etcd-password=x", &both]);
    assert!(
        error.contains("`etcd_password`") && error.contains("`etcd_password_file`"),
        "{error}"
    );
    for (setting, flag) in [
        ("etcd_password_file", "--etcd-password-file=/does/not/exist"),
        (
            "inspector_token_file",
            "--inspector-token-file=/does/not/exist",
        ),
    ] {
        let error = refused("", &[ETCD, flag]);
        assert!(error.contains(&format!("`{setting}`")), "{error}");
    }
}

#[test]
fn v4_defaults_are_those_of_the_table() {
    let settings = read("", &[]).expect("nothing is required");
    assert_eq!(settings.store.prefix.as_str(), "/steading/");
    assert_eq!(settings.num_shards, ShardCount::DEFAULT);
    assert_eq!(settings.grpc_listen.to_string(), "127.0.0.1:7400");
    assert_eq!(settings.http_listen.to_string(), "127.0.0.1:7480");
    assert_eq!(settings.lease_ttl, Duration::from_secs(5));
    assert_eq!(settings.drain_timeout, Duration::from_secs(25));
    assert_eq!(settings.planner.join_delay, Duration::from_millis(300));
    assert_eq!(settings.weight(Role::Node), Weight::ONE);
    assert_eq!(settings.replace, Replace::Lock);
    assert_eq!(settings.storage(Role::Node), StorageChoice::Memory);
    assert_eq!(
        settings.storage(Role::Dev),
        StorageChoice::Embedded("./steading-data".into())
    );
}

#[test]
fn v4_a_flag_goes_before_the_file_and_the_file_before_the_default() {
    let file = r#"
        node_id = "n1"
        num_shards = 64
        weight = 2
        etcd = ["http://a:1", "b:2"]
        lease_ttl = "10s"
        labels = { rack = "r7", disk = "ssd" }
    "#;
    let settings = read(file, &["--lease-ttl=7s"]).expect("good settings");
    assert_eq!(settings.node_id.as_ref().map(NodeId::as_str), Some("n1"));
    assert_eq!(settings.num_shards.get(), 64);
    assert_eq!(settings.weight(Role::Node).thousandths(), 2000);
    let etcd: Vec<_> = settings.store.etcd.iter().map(Endpoint::as_str).collect();
    assert_eq!(etcd, ["http://a:1", "http://b:2"]);
    assert_eq!(settings.lease_ttl, Duration::from_secs(7));
    let labels: Vec<_> = settings
        .labels
        .iter()
        .map(|label| label.name.as_str())
        .collect();
    assert_eq!(labels, ["disk", "rack"]);
}

#[test]
fn v4_a_bad_value_names_the_setting() {
    for (flag, why) in [
        ("--num-shards=100", "power of two"),
        ("--num-shards=many", "must be a number"),
        ("--lease-ttl=1s", "2s to 60s"),
        ("--lease-ttl=5", "write it like 5s"),
        ("--drain-timeout=soon", "write it like 5s"),
        ("--prefix=steading", "begin and end with a slash"),
        ("--prefix=//", "begin and end with a slash"),
        ("--grpc-listen=7400", "HOST:PORT"),
        ("--http-listen=127.0.0.1:70000", "up to 65535"),
        ("--http-listen=::1:80", "HOST:PORT"),
        ("--etcd=ftp://a", "not http or https"),
        ("--etcd=http://", "URL"),
        ("--etcd=http://me:secret@a:1", "etcd_password"),
        ("--weight=0", "0.001 to 1000"),
        ("--node-id=a/b", "cannot name a node"),
        ("--labels=rack", "NAME=VALUE"),
        ("--regions=eu=0-9", "is no region"),
        ("--replace=maybe", "lock, always, never"),
        ("--log-format=xml", "text, json, auto"),
    ] {
        let error = refused("", &[flag]);
        let name = flag.split('=').next().expect("a name");
        assert!(
            error.contains(name) && error.contains(why),
            "{flag}: {error}"
        );
    }
}

#[test]
fn v4_a_bad_value_in_the_file_names_file_and_key() {
    for (file, key, why) in [
        ("num_shards = 100", "num_shards", "power of two"),
        ("lease_ttl = 5", "lease_ttl", "write it like 5s"),
        ("lease_ttl = '1s'", "lease_ttl", "2s to 60s"),
        ("etcd = ['ftp://a']", "etcd", "not http or https"),
        ("prefix = ['/a/', '/b/']", "prefix", "one value"),
        ("replace = 'maybe'", "replace", "maybe"),
        ("zone = 1979-05-27", "zone", "date"),
        ("num_shard = 64", "num_shard", "no setting"),
        ("config = 'other.toml'", "config", "no setting"),
    ] {
        let error = refused(file, &[]);
        assert!(error.contains("steading.toml"), "{file}: {error}");
        assert!(
            error.contains(&format!("`{key}`")) && error.contains(why),
            "{file}: {error}"
        );
    }
    for not_toml in ["num_shards = ", "num_shards = 64\nnum_shards = 128"] {
        assert!(refused(not_toml, &[]).contains("not TOML"), "{not_toml}");
    }
}

#[test]
fn v4_settings_that_do_not_go_together_are_refused() {
    for (flags, setting) in [
        (&[][..], "etcd"),
        (&[ETCD, "--etcd=http://127.0.0.1:2379"], "etcd"),
        (&[ETCD, "--etcd-user=me"], "etcd_password"),
        (&[ETCD, "--etcd-password=x"], "etcd_password"),
        (&[ETCD, "--etcd-cert=c.pem"], "etcd_key"),
        (&[ETCD, "--etcd-key=k.pem"], "etcd_key"),
        (&[ETCD, "--etcd-ca=ca.pem"], "etcd_ca"),
        (
            &[ETCD, "--etcd-cert=c.pem", "--etcd-key=k.pem"],
            "etcd_cert",
        ),
        (&[ETCD, "--etcd=https://b:1"], "etcd"),
        (
            &[ETCD, "--grpc-listen=a:1", "--http-listen=a:1"],
            "http_listen",
        ),
        (
            &[ETCD, "--inspector-listen=127.0.0.1:7480"],
            "inspector_listen",
        ),
        (&[ETCD, "--grpc-advertise=a:0"], "grpc_advertise"),
        (&[ETCD, "--grpc-listen=0.0.0.0:7400"], "grpc_advertise"),
        (&[ETCD, "--grpc-listen=[::]:7400"], "grpc_advertise"),
        (&[ETCD, "--grpc-advertise=0.0.0.0:7400"], "grpc_advertise"),
        (&[ETCD, "--regions=type:A=0-9,type:B=9-12"], "regions"),
        (&[ETCD, "--regions=type:A=8190-8192"], "regions"),
        (&[ETCD, "--labels=a=1,a=2"], "labels"),
        (&[ETCD, "--labels=capacity=many"], "labels"),
        (&[ETCD, "--storage=disk"], "storage"),
        (&[ETCD, "--storage=embedded:"], "storage"),
        (&[ETCD, "--storage=postgres://a/b"], "storage"),
        (&[ETCD, "--log=a=b=c"], "log"),
        (&[ETCD, "--rebalance-batch-size=0"], "rebalance_batch_size"),
        (&[ETCD, "--imbalance-threshold=0.2"], "imbalance_threshold"),
        (&[ETCD, "--load-window=0s"], "load_window"),
        (&[ETCD, "--join-delay=3s"], "join_delay_max"),
        (&[ETCD, "--load-cooldown=2h"], "load_cooldown_max"),
        (&[ETCD, "--zone-rules=0-9:eu"], "zone_rules"),
        (&[ETCD, "--zone-rules=9-0=eu"], "zone_rules"),
        (&[ETCD, "--zone-rules=0-8192=eu"], "zone_rules"),
    ] {
        let error = refused("", flags);
        assert!(
            error.contains(&format!("`{setting}`")),
            "{flags:?}: {error}"
        );
    }
}

#[test]
fn what_fits_no_gate_or_no_dev_is_refused_there() {
    for (role, flag, setting) in [
        (Role::Gate, "--weight=2", "weight"),
        (Role::Dev, "--supervise", "supervise"),
        (Role::Dev, "--grpc-advertise=a:1", "grpc_advertise"),
    ] {
        let settings = read("", &[ETCD, flag]).expect("well-formed");
        let error = settings.check(role).expect_err("it should be refused");
        assert!(
            error.to_string().contains(&format!("`{setting}`")),
            "{error}"
        );
        settings.check(Role::Node).expect("it fits a node");
    }
}

#[test]
fn who_listens_on_every_address_says_which_one_leads_there() {
    let everywhere = "--grpc-listen=0.0.0.0:7400";
    let settings = read("", &[ETCD, everywhere]).expect("well-formed");
    let error = settings.check(Role::Gate).expect_err("nobody finds a gate");
    assert!(error.to_string().contains("`grpc_listen`"), "{error}");
    settings.check(Role::Dev).expect("one process");
    let told = [ETCD, everywhere, "--grpc-advertise=a:7400"];
    let settings = read("", &told).expect("well-formed");
    settings.check(Role::Node).expect("it is told");
}

#[test]
fn any_port_is_no_port_that_two_servers_share() {
    let flags = [ETCD, "--grpc-listen=a:0", "--http-listen=a:0"];
    let settings = read("", &flags).expect("well-formed");
    settings.check(Role::Node).expect("they get a port each");
}

#[test]
fn s2_24_s2_25_the_planners_settings_default_to_the_planners_own() {
    let settings = read("", &[]).expect("nothing is required");
    let plan_settings = settings.planner.plan_settings(settings.num_shards);
    assert_eq!(plan_settings.expect("good"), PlanSettings::default());
}

#[test]
fn s2_24_s2_25_the_planners_settings_are_read() {
    let file = "rebalance_strategy = 'count'\nzone_rules = ['0-9=eu', '10-19~us']";
    let settings = read(file, &["--pin-policy=wait", "--load-act=0.5"]).expect("good settings");
    let read = settings.planner.plan_settings(settings.num_shards);
    let read = read.expect("good rules");
    assert_eq!(read.strategy, Strategy::Count);
    assert_eq!(read.pin_policy, PinPolicy::Wait);
    assert_eq!(read.load_act_permille, 500);
    let rules = read.zone_rules.iter();
    let rules: Vec<_> = rules
        .map(|rule| (rule.zone.as_str(), rule.strength))
        .collect();
    assert_eq!(rules, [("eu", Strength::Hard), ("us", Strength::Soft)]);
}

#[test]
fn v4_secrets_are_never_shown() {
    let flags = [ETCD, "--etcd-user=me", "--etcd-password=geheim"];
    let settings = read("", &flags).expect("good settings");
    assert!(!format!("{settings:?}").contains("geheim"));
    for storage in [
        "postgres://me:geheim@db/x",
        "postgres:/geheim",
        "redis://:geheim@a",
    ] {
        let flag = format!("--storage={storage}");
        let settings = read("", &[ETCD, &flag]).expect("well-formed");
        assert!(!format!("{settings:?}").contains("geheim"));
        let error = settings.check(Role::Node).expect_err("not in this version");
        assert!(!error.to_string().contains("geheim"), "{error}");
    }
}

#[test]
fn addresses_know_who_reaches_them() {
    let loopback = |text: &str| text.parse::<Address>().expect("an address").is_loopback();
    assert!(
        ["127.0.0.1:1", "[::1]:1", "localhost:1", "127.9.9.9:0"]
            .into_iter()
            .all(loopback)
    );
    assert!(
        !["0.0.0.0:1", "10.0.0.4:1", "[::]:1", "example.org:1"]
            .into_iter()
            .any(loopback)
    );
}
