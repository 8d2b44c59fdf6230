CREATE TABLE blackhole_like_new LIKE {schema}_models.model;
INSERT INTO blackhole_like_new VALUES (1);
