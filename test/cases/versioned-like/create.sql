CREATE TABLE versioned_like (id INT PRIMARY KEY);
INSERT INTO versioned_like VALUES (1);
CREATE DATABASE {schema}_models;
CREATE TABLE {schema}_models.model (id INT PRIMARY KEY, v INT) WITH SYSTEM VERSIONING;
