CREATE TABLE airlines (
    carrier text PRIMARY KEY,
    name text NOT NULL
);

CREATE TABLE airports (
    faa text PRIMARY KEY,
    name text NOT NULL,
    latitude double precision NOT NULL,
    longitude double precision NOT NULL,
    altitude integer NOT NULL,
    utc_offset numeric(4, 2),
    daylight_saving text,
    time_zone text
);

CREATE TABLE planes (
    tailnum text PRIMARY KEY,
    built smallint,
    type text NOT NULL,
    manufacturer text NOT NULL,
    model text NOT NULL,
    engines smallint NOT NULL,
    seats smallint NOT NULL,
    speed smallint,
    engine text NOT NULL
);

CREATE TABLE weather (
    origin text NOT NULL,
    observed timestamptz(0) NOT NULL,
    temperature numeric(6, 2),
    dew_point numeric(6, 2),
    humidity numeric(6, 2),
    wind_direction smallint,
    wind_speed double precision,
    wind_gust double precision,
    precipitation numeric(6, 2),
    pressure numeric(6, 1),
    visibility numeric(6, 2),
    PRIMARY KEY (origin, observed)
);

CREATE TABLE flights (
    scheduled timestamptz(0) NOT NULL,
    carrier text NOT NULL REFERENCES airlines,
    flight integer NOT NULL,
    origin text NOT NULL,
    destination text NOT NULL,
    tailnum text,
    distance integer NOT NULL,
    arrival_due time(0),
    departed timestamptz(0),
    departure_delay integer,
    arrived time(0),
    arrival_delay integer,
    air_minutes integer,
    status text NOT NULL,
    PRIMARY KEY (scheduled, carrier, flight)
);
