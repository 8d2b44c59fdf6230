CREATE TABLE blackhole_like (id INT PRIMARY KEY);
INSERT INTO blackhole_like VALUES (1);
CREATE DATABASE {schema}_models;
CREATE TABLE {schema}_models.model (id INT PRIMARY KEY) ENGINE = BLACKHOLE;
